"""Stand-ins for the four providers: each speaks its vendor's wire format and misbehaves on request."""
