"""Compare several runs: groups, verdicts, figures, tables, a report."""
