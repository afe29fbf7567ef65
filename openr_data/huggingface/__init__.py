"""Datasets on the Hugging Face Hub: published from a snapshot, and taken back."""
