-- Keys of the ring that have sealed values here. One that a rotation has replaced is closed before its values are wrapped
-- anew, and whoever still seals with it, because it reads the key ring too late, is refused.
CREATE TABLE sealing_keys (
    key_id text PRIMARY KEY NOT NULL,
    closed_at text
) STRICT;
