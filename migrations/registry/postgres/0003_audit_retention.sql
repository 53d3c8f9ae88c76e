-- Records from before this moment may be removed; it only ever moves forward.
CREATE TABLE audit_horizon (
    id           integer     PRIMARY KEY CHECK (id = 1),
    removable_to timestamptz NOT NULL
);
INSERT INTO audit_horizon (id, removable_to) VALUES (1, '1970-01-01 00:00:00+00');

CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.occurred_at < (SELECT removable_to FROM audit_horizon WHERE id = 1) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit records are never changed, and removed only when they are older than audit_horizon';
END
$$;
