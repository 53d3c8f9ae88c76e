-- What the operator's settings last gave as the secret of an account: only another one replaces what the account has.
-- A row outlives its account, for what was deleted is not seeded again.
CREATE TABLE service_account_seeds (
    id uuid PRIMARY KEY,
    secret_hash bytea NOT NULL
);
