"""Orders, event sourced: what happened is the log, and everything else is computed from it.

`domain` has the rules and knows no broker, `log` keeps events and snapshots in topics, `projection` keeps a read model in
SQLite, and `__main__` is the command line.
"""
