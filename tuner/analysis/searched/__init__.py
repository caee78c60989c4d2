"""What the search of each arm did: its points, edges, costs, curves. No verdict is known here."""
