-- The endpoint that a grant was given for: one that comes later under the same name is another, and nobody has a grant on it.
-- Null for all endpoints (*), and for grants of programs that did not know this column until the endpoint is looked up.
ALTER TABLE grants ADD COLUMN endpoint_id blob;
CREATE INDEX grants_endpoint ON grants (endpoint_id);
