-- Least privileges for the connector's database: one role owns the tables, another one works with them.
-- Run it as an administrator of the database (on RDS and Cloud SQL their master user will do), before
-- the first `ml-connector migrate` and as often as you like:
--   psql --dbname=ml_connector --set=owner=ml_connector_owner --set=worker=ml_connector_worker \
--     --file=deploy/database_roles.sql
-- Both roles must exist (CREATE ROLE ... LOGIN PASSWORD ...). `ml-connector migrate` runs as the owner;
-- the connection `ml_connector_db` of Airflow names the worker. With `audit.keep_months` old months of
-- the audit are dropped, and that alone needs the owner at run time (docs/reference/audit.md).
\set ON_ERROR_STOP on
BEGIN;

GRANT :"owner" TO CURRENT_USER; -- an administrator who is no superuser may then act for the owner
CREATE SCHEMA IF NOT EXISTS ml_connector AUTHORIZATION :"owner";
GRANT USAGE ON SCHEMA ml_connector TO :"worker";
SELECT format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO %I, %I', current_database(), :'owner', :'worker')
\gexec

-- What is there, and what later migrations add. TRUNCATE, REFERENCES and TRIGGER are the owner's.
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ml_connector TO :"worker";
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA ml_connector TO :"worker";
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA ml_connector TO :"worker";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA ml_connector
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"worker";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA ml_connector
    GRANT USAGE, SELECT ON SEQUENCES TO :"worker";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA ml_connector
    GRANT EXECUTE ON ROUTINES TO :"worker";

COMMIT;
