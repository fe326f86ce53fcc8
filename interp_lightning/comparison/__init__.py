"""Several runs side by side: groups, figures, tables, a report."""
