"""How refusals look where a problem document alone does not do: OAuth endpoints, WebSockets."""
