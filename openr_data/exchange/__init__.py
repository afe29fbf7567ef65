"""Records in and out of the store, in the formats of the field."""
