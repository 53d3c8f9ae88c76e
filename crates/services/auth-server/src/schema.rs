//! The tables of this service.

use portico_db::{Migration, Schema};

/// The auth-server's schema.
static SCHEMA: Schema = Schema {
    name: "auth_server",
    postgres: &[
        Migration {
            version: 1,
            name: "initial",
            sql: include_str!("../../../../migrations/auth-server/postgres/0001_initial.sql"),
            breaking: true,
        },
        Migration {
            version: 2,
            name: "audit retention",
            sql: include_str!("../../../../migrations/auth-server/postgres/0002_audit_retention.sql"),
            breaking: false,
        },
        Migration {
            version: 3,
            name: "service account seeds",
            sql: include_str!("../../../../migrations/auth-server/postgres/0003_service_account_seeds.sql"),
            breaking: false,
        },
        Migration {
            version: 4,
            name: "audit clocks",
            sql: include_str!("../../../../migrations/auth-server/postgres/0004_audit_clocks.sql"),
            breaking: false,
        },
        Migration {
            version: 5,
            name: "sealing keys",
            sql: include_str!("../../../../migrations/auth-server/postgres/0005_sealing_keys.sql"),
            breaking: false,
        },
        Migration {
            version: 6,
            name: "grants of endpoints",
            sql: include_str!("../../../../migrations/auth-server/postgres/0006_grants_of_endpoints.sql"),
            breaking: false,
        },
    ],
    sqlite: &[
        Migration {
            version: 1,
            name: "initial",
            sql: include_str!("../../../../migrations/auth-server/sqlite/0001_initial.sql"),
            breaking: true,
        },
        Migration {
            version: 2,
            name: "audit retention",
            sql: include_str!("../../../../migrations/auth-server/sqlite/0002_audit_retention.sql"),
            breaking: false,
        },
        Migration {
            version: 3,
            name: "service account seeds",
            sql: include_str!("../../../../migrations/auth-server/sqlite/0003_service_account_seeds.sql"),
            breaking: false,
        },
        Migration {
            version: 4,
            name: "audit clocks",
            sql: include_str!("../../../../migrations/auth-server/sqlite/0004_audit_clocks.sql"),
            breaking: false,
        },
        Migration {
            version: 5,
            name: "sealing keys",
            sql: include_str!("../../../../migrations/auth-server/sqlite/0005_sealing_keys.sql"),
            breaking: false,
        },
        Migration {
            version: 6,
            name: "grants of endpoints",
            sql: include_str!("../../../../migrations/auth-server/sqlite/0006_grants_of_endpoints.sql"),
            breaking: false,
        },
    ],
};

/// Returns the history of this service's tables.
#[must_use]
pub fn schema() -> &'static Schema {
    &SCHEMA
}
