"""
What Postfix makes of what we say.

Postfix puts a prefix before the text of a policy reply, rewrites some enhanced codes by the list
that asks, remembers some replies for a later command and answers others in its own words. These
modules know it, so that `check` and `explain` show what a client will see, and a test holds them
against a real Postfix. The sources are access(5), MILTER_README, SMTPD_POLICY_README and, where
those are silent, smtpd's own code (smtpd_check.c, smtpd_dsn_fix.c, smtpd.c, milter8.c of 3.7).
"""

from policyd.protocol.postfix.prediction import Line, Prediction, Setting, Step, predict
from policyd.protocol.postfix.rewriting import (
    LINE_LIMIT,
    asked_at,
    longest_prefix,
    prefix,
    rewrite,
    room,
    usual_list,
)
from policyd.protocol.postfix.surprises import surprises

__all__ = [
    "LINE_LIMIT",
    "Line",
    "Prediction",
    "Setting",
    "Step",
    "asked_at",
    "longest_prefix",
    "predict",
    "prefix",
    "rewrite",
    "room",
    "surprises",
    "usual_list",
]
