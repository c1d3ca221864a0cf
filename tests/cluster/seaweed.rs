//! A repository on a cluster of SeaweedFS.

use super::*;
use crate::servers::seaweed_cluster::{self, Node};

#[test]
fn a_cluster_that_loses_a_node_during_backup_restore_and_prune_loses_nothing() {
    if !is_long() {
        return;
    }
    let Some(cluster) = seaweed_cluster::cluster() else { return };
    let line = Line::to(cluster.port());
    let scene = Scene::of(cluster);
    scene.begin(line.port());
    scene.loses_in_a_backup(&line, Node::Volume(0));
    scene.loses_in_a_restore(&line, Node::Volume(1));
    scene.loses_in_a_prune(&line, Node::Volume(2));

    // The very server that is asked goes: nothing is lost, and the next run goes well.
    scene.fails_when_these_go(&line, &[Node::S3], 2);
    scene.cluster.switch_on(Node::S3);
    scene.run(line.port(), &["verify", "--all"]).expect(0);
    scene.run(line.port(), &["backup", "source"]).expect(0);
    scene.is_whole(line.port(), "after-all");
}
