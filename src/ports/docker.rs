//! Container engine through its `docker` command. Must not know about clusters.
