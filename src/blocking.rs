//! Work that blocks its thread, next to tasks that must go on meanwhile.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Blocks, and where that would keep other tasks waiting, hands them to another thread first.
pub(crate) fn beside_other_tasks<T>(block: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(block),
        _ => block(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_tasks_of_a_blocked_thread_go_on() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let blocked = runtime.spawn(async {
            let (sender, receiver) = mpsc::channel();
            tokio::spawn(async move { sender.send(()).unwrap() });
            beside_other_tasks(|| receiver.recv_timeout(Duration::from_secs(30)))
        });
        runtime.block_on(blocked).unwrap().unwrap();
    }

    #[tokio::test]
    async fn where_there_is_one_thread_only_it_blocks() {
        assert_eq!(beside_other_tasks(|| 1), 1);
    }
}
