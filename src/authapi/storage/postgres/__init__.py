"""PostgreSQL: connections, session parameters, URL parameters, poolers, privileges."""
