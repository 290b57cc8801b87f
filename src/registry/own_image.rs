//! mctl's own image, formed around the running static executable. Must not push anything.
