"""Publishes snapshots to the Hugging Face Hub and pulls them back."""
