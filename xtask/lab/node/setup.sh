#!/bin/bash
# Runs in the node image's root before it is packed: what kind's own Dockerfile does after copying files, and what a
# host without CAP_SYS_RESOURCE and without cgroup v2 needs.
set -o errexit -o nounset -o pipefail

chmod 755 /kind /kind/bin
mkdir -p /etc/kubernetes/manifests /opt/cni/bin /usr/local/sbin /var/lib/containerd
for plugin in bridge host-local loopback portmap ptp; do
  mv "/usr/lib/cni/$plugin" /opt/cni/bin/
done
for program in containerd containerd-shim-runc-v2 ctr; do
  ln -s "/usr/bin/$program" "/usr/local/bin/$program"
done
ln -s /usr/sbin/runc /usr/local/sbin/runc

# The pause image is kubeadm's, as kind sets it when it builds a node image.
pause=$(kubeadm config images list --kubernetes-version "$(kubeadm version -o short)" 2>/dev/null | grep /pause:)
sed -i "s#sandbox_image = .*#sandbox_image = \"$pause\"#" /etc/containerd/config.toml
kubeadm version -o short | tr -d '\n' > /kind/version

# Limits of the host.
sed -i 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' /etc/containerd/config.toml
grep -q 'restrict_oom_score_adj = true' /etc/containerd/config.toml
echo 'KUBELET_EXTRA_ARGS=--runtime-cgroups=/system.slice/containerd.service --fail-cgroupv1=false' > /etc/default/kubelet

# Units that make no sense in a container.
units=/usr/lib/systemd/system
find "$units/sysinit.target.wants/" -name systemd-tmpfiles-setup.service -delete
rm -f "$units"/{multi-user,local-fs,basic}.target.wants/* /etc/systemd/system/*.wants/*
rm -f "$units"/sockets.target.wants/*udev* "$units"/sockets.target.wants/*initctl*
mkdir -p /etc/systemd
echo ReadKMsg=no >> /etc/systemd/journald.conf
ln -sf /usr/lib/systemd/systemd /usr/sbin/init
systemctl enable kubelet.service containerd.service undo-mount-hacks.service
systemctl mask systemd-binfmt.service

ctr oci spec |
  jq '.hooks.createContainer[.hooks.createContainer | length] |= . + {"path": "/kind/bin/mount-product-files.sh"}
      | del(.process.rlimits)' > /etc/containerd/cri-base.json
rm -f /etc/machine-id /var/lib/dbus/machine-id
