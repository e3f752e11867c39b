"""Messages as MIME has them (RFC 2045, 2046, 2183, 2231), read whatever they hold."""
