"""What an import reads: tables of other systems, and the ids of its lines."""
