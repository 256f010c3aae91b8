"""What stands in for a venue: recorded prices and books as something that takes orders."""
