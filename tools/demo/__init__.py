"""`make demo`: policyd beside a private real Postfix, and sample mails of every verdict."""
