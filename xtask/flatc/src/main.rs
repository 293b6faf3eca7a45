//! Prints the path of the flatc that its build made.

fn main() {
    println!("{}", flatc_fork::flatc().display());
}
