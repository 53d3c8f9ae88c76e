//! Postgres and SQLite behind one enum, migrations, outbox, revisions.
