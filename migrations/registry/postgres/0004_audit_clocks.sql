-- Whatever a wrong clock says, the last day stays, and the horizon only ever moves forward.
CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.occurred_at < LEAST(
        (SELECT removable_to FROM audit_horizon WHERE id = 1),
        now() - interval '1 day'
    ) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit records are never changed, and removed only when they are older than audit_horizon';
END
$$;

CREATE FUNCTION audit_horizon_moves_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.removable_to < OLD.removable_to THEN
        RAISE EXCEPTION 'audit_horizon never moves back';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER audit_horizon_forward BEFORE UPDATE ON audit_horizon
    FOR EACH ROW EXECUTE FUNCTION audit_horizon_moves_forward();
