-- Whatever a wrong clock says, the last day stays, and the horizon only ever moves forward.
DROP TRIGGER audit_never_shrinks;
CREATE TRIGGER audit_never_shrinks BEFORE DELETE ON audit
WHEN OLD.occurred_at >= min(
    (SELECT removable_to FROM audit_horizon WHERE id = 1),
    strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now', '-1 day')
)
BEGIN
    SELECT RAISE(ABORT, 'audit records are removed only when they are older than audit_horizon');
END;

CREATE TRIGGER audit_horizon_forward BEFORE UPDATE ON audit_horizon
WHEN NEW.removable_to < OLD.removable_to
BEGIN
    SELECT RAISE(ABORT, 'audit_horizon never moves back');
END;
