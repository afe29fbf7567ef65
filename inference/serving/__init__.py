"""What policies and reward models both need: servers, clients, engines, model files."""
