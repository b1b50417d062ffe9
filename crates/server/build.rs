//! Exports the libc hooks (serval_loader::hooks) from the executable, and nothing else: any other exported name could take the
//! place of a servlet library's own function.

fn main() {
    for name in ["__cxa_thread_atexit_impl", "pthread_key_create", "pthread_key_delete", "pthread_create"] {
        println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
