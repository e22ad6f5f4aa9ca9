//! The runtime: the only room that names glommio or io-uring, and where `unsafe` lives.
