"""What the search of each arm showed: its points, edges, spending, curves. No verdict is known here."""
