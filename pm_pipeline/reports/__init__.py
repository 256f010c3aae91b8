"""What a person reads: figures, pages, and exports."""
