//! Pulls and pushes images; the only user of oci-client.
