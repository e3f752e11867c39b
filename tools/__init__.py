"""Programs and modules for working on policyd: the private Postfix, the SMTP client, the demo."""
