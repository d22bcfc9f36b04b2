//! Backups, what is made of them, and other ways back to a cluster: scenarios over whole members.

mod compression;
mod corrupt;
mod documents;
mod forced;
mod restored;
mod saved;
mod streamed;
