#![cfg(feature = "tokio")]

