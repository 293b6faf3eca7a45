//! Any range over a server that cuts, stalls and refuses at random equals the slice.

use blob_core::ByteSource as _;
use blob_http::{HttpSource, RetryPolicy};
use proptest::prelude::*;

use crate::server::{honest, whole};
use crate::{content, eager, read, source_options, transport};
use blob_testkit::hostile::{Reply, Server, Step};

/// What a server does to one request.
#[derive(Clone, Debug)]
enum Fault {
    None,
    CutAfter(usize),
    Status(u16),
    /// The whole instead of the part, cut or not.
    Whole(Option<usize>),
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => Just(Fault::None),
        4 => (0_usize..20_000).prop_map(Fault::CutAfter),
        1 => prop::sample::select(vec![408_u16, 429, 500, 502, 503, 504]).prop_map(Fault::Status),
        1 => prop::option::of(0_usize..60_000).prop_map(Fault::Whole),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_range_equals_the_slice(
        size in 0_usize..60_000,
        first in 1_u64..70_000,
        spool in prop::sample::select(vec![0_u64, 1 << 20]),
        faults in prop::collection::vec(fault(), 1..12),
        ranges in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bytes = content(size);
            let script = { let bytes = bytes.clone(); move |number: usize, seen: &_| match faults.get(number) {
                None | Some(Fault::None) => honest(&bytes, seen),
                Some(Fault::CutAfter(keep)) => honest(&bytes, seen).after(*keep, Step::Cut),
                Some(Fault::Status(status)) => Reply::new(*status),
                Some(Fault::Whole(None)) => whole(&bytes),
                Some(Fault::Whole(Some(keep))) => whole(&bytes).after(*keep, Step::Cut),
            } };
            let server = Server::start(script).await;
            // As many attempts as there can be faults in a row: everything here can be recovered.
            let retry: RetryPolicy = eager().with_max_attempts(20);
            let options = source_options().with_first(first).with_max_spool(spool).with_retry(retry);
            let source = HttpSource::open(transport(), server.url.clone(), options).await.unwrap();
            assert_eq!(source.size(), size as u64);
            for (a, b) in ranges {
                let (a, b) = (a.index(size + 1), b.index(size + 1));
                let (start, end) = (a.min(b), a.max(b));
                assert_eq!(read(&source, start as u64, end as u64).await.unwrap(), bytes.slice(start..end));
            }
        });
    }
}
