"""What is seen from outside of each decision: metrics for Prometheus and one log line."""
