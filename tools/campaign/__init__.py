"""Campaigns: what a long run against `policyd serve` shows, as figures (`make campaign`).

`reload`: no answer is lost or wrong while the policy changes under load. `kills`: nor while
workers are killed or frozen, as SMTP clients of a real Postfix see it. `flat`: a thousand of
either leave nothing behind. `spread`: connections and work are shared. `stop`: what is under way
is finished. policyd is a black box to all of them: its protocols, its metrics, its processes.
"""
