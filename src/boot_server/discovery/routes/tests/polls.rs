//! Long polls: who waits is told of each member once.

use super::*;

#[tokio::test]
async fn a_poll_for_the_past_is_answered_at_once() {
    let lab = Lab::with_cluster().await;
    lab.register("a", "a=http://a:2380").await;
    lab.register("b", "b=http://b:2380").await;
    for (index, id) in [(1, "a"), (2, "a"), (3, "b")] {
        let path = format!("/{T}?wait=true&recursive=true&waitIndex={index}");
        let reply = lab.get(&path).await;
        assert_eq!((reply.status, reply.index.as_deref()), (200, Some("3")));
        assert_eq!(reply.json()["action"], "create");
        assert_eq!(reply.json()["node"]["key"], format!("/_etcd/registry/{T}/{id}"));
    }
    // The client makes sure that it sees its own registration.
    let own = lab.get(&format!("/{T}/b?wait=true&recursive=false&waitIndex=3")).await;
    assert_eq!(own.json()["node"]["createdIndex"], 3);
}

#[tokio::test]
async fn a_poll_has_its_headers_at_once_and_each_member_once() {
    let lab = Lab::with_cluster().await;
    let response = lab.open(&format!("/{T}?wait=true&recursive=true&waitIndex=2")).await;
    assert_eq!(response.headers()[INDEX], "1");
    let body = to_bytes(response.into_body(), usize::MAX);
    tokio::pin!(body);
    assert!(timeout(MOMENT, &mut body).await.is_err(), "nobody has registered");

    lab.register("a", "a=http://a:2380").await;
    lab.register("b", "b=http://b:2380").await;
    let first: Value = serde_json::from_slice(&body.await.unwrap()).unwrap();
    assert_eq!(first["node"]["value"], "a=http://a:2380");
    let next = first["node"]["modifiedIndex"].as_u64().unwrap() + 1;
    let reply = lab.get(&format!("/{T}?wait=true&recursive=true&waitIndex={next}")).await;
    assert_eq!(reply.json()["node"]["value"], "b=http://b:2380");
}

#[tokio::test]
async fn a_poll_without_an_index_waits_for_what_comes() {
    let lab = Lab::with_cluster().await;
    lab.register("a", "a=http://a:2380").await;
    for index in ["", "&waitIndex=0"] {
        let path = format!("/{T}?wait=true&recursive=true{index}");
        assert!(lab.stays_open(&path).await, "{path}");
    }
    let response = lab.open(&format!("/{T}?wait=true&recursive=true")).await;
    lab.register("b", "b=http://b:2380").await;
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("b=http://b:2380"));
}

#[tokio::test]
async fn a_poll_is_not_ended_by_changes_deletions_or_other_clusters() {
    let lab = Lab::with_cluster().await;
    lab.get("/new?size=1").await;
    lab.register("a", "a=http://a:2380").await;
    let response = lab.open(&format!("/{T}?wait=true&recursive=true&waitIndex=4")).await;
    lab.request("PUT", &format!("/{T}/a"), "value=changed").await;
    lab.request("DELETE", &format!("/{T}/a"), "").await;
    lab.request("PUT", &format!("/{:032x}/x?prevExist=false", 3), "value=x").await;
    let mut body = Box::pin(to_bytes(response.into_body(), usize::MAX));
    assert!(timeout(MOMENT, &mut body).await.is_err());
    lab.register("b", "b=http://b:2380").await;
    assert!(String::from_utf8_lossy(&body.await.unwrap()).contains("b=http://b:2380"));
}

#[tokio::test]
async fn a_poll_of_the_directory_alone_never_sees_a_member() {
    let lab = Lab::with_cluster().await;
    lab.register("a", "a=http://a:2380").await;
    assert!(lab.stays_open(&format!("/{T}?wait=true&recursive=false&waitIndex=1")).await);
}

#[tokio::test]
async fn many_waiters_are_all_told() {
    let lab = Lab::with_cluster().await;
    let path = format!("/{T}?wait=true&recursive=true&waitIndex=2");
    let mut polls = Vec::new();
    for _ in 0..50 {
        let body = lab.open(&path).await.into_body();
        polls.push(tokio::spawn(to_bytes(body, usize::MAX)));
    }
    lab.register("a", "a=http://a:2380").await;
    for poll in polls {
        assert!(String::from_utf8_lossy(&poll.await.unwrap().unwrap()).contains("a=http://a"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_nothing_happens_to_ends_empty_so_that_the_client_asks_again() {
    let lab = Lab::with_cluster().await;
    let response = lab.open(&format!("/{T}?wait=true&recursive=true&waitIndex=2")).await;
    let body = to_bytes(response.into_body(), usize::MAX);
    tokio::pin!(body);
    let nearly = LONGEST_POLL.checked_sub(MOMENT).unwrap();
    assert!(timeout(nearly, &mut body).await.is_err());
    sleep(MOMENT).await;
    assert_eq!(body.await.unwrap(), Bytes::new());
}

#[tokio::test]
async fn closing_ends_the_polls() {
    let lab = Lab::with_cluster().await;
    let response = lab.open(&format!("/{T}?wait=true&recursive=true&waitIndex=2")).await;
    lab.discovery.close();
    assert_eq!(to_bytes(response.into_body(), usize::MAX).await.unwrap(), Bytes::new());
}
