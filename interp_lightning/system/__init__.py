"""The machine below: files, streams, processes, and text that is safe to show."""
