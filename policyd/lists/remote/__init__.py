"""Lists that are looked up where they are, key by key: in SQL, Redis and LDAP."""
