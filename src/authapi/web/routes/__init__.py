"""The routes, one module for each resource. Handlers call a service and return its result."""
