"""One file per dataset format of the field: read and write."""
