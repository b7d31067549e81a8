"""Groups of services, as `Services` creates them."""
