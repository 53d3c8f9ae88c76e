-- Records from before this moment may be removed; it only ever moves forward.
CREATE TABLE audit_horizon (
    id integer PRIMARY KEY CHECK (id = 1),
    removable_to text NOT NULL
) STRICT;
INSERT INTO audit_horizon (id, removable_to) VALUES (1, '1970-01-01T00:00:00+00:00');

CREATE TRIGGER audit_never_changes BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit records are never changed or removed');
END;
CREATE TRIGGER audit_never_shrinks BEFORE DELETE ON audit
WHEN OLD.occurred_at >= (SELECT removable_to FROM audit_horizon WHERE id = 1)
BEGIN
    SELECT RAISE(ABORT, 'audit records are removed only when they are older than audit_horizon');
END;
