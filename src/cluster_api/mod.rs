//! What mctl knows of Cluster API beyond plain objects: moving clusters between management clusters.
