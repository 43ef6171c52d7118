// What a node's vendors bring: a CSI driver, and device plugins, as small as the kubelet accepts them.
//
//	node-plugins KUBELET_ROOT DATA
//
// The driver is csi.acme.example. What a volume is, its attribute "kind" says: a file system of its own ("tmpfs"), a
// directory of the node ("directory"), or a part of a file system that other volumes share ("share"); the last two lie
// below DATA. A volume that a pod brings along ("ephemeral") is a tmpfs.
//
// acme.example/gpu gives a device by the name that a CDI specification has for it; acme.example/raw, which is older,
// gives a device node and a mount itself.
package main

import (
	"context"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	devices "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const driverName = "csi.acme.example"

func main() {
	root, data := os.Args[1], os.Args[2]
	driver := &driver{data: data}
	serve(root, driverName, registration.CSIPlugin, "1.0.0", func(server *grpc.Server) {
		csi.RegisterIdentityServer(server, driver)
		csi.RegisterNodeServer(server, driver)
	})
	gpu := &devices.ContainerAllocateResponse{CdiDevices: []*devices.CDIDevice{{Name: "acme.example/gpu=0"}}}
	raw := &devices.ContainerAllocateResponse{
		Devices: []*devices.DeviceSpec{{ContainerPath: "/dev/acme-raw", HostPath: "/dev/full", Permissions: "rw"}},
		Mounts:  []*devices.Mount{{ContainerPath: "/opt/acme", HostPath: filepath.Join(data, "raw"), ReadOnly: true}},
	}
	for name, response := range map[string]*devices.ContainerAllocateResponse{"gpu": gpu, "raw": raw} {
		serve(root, "acme.example/"+name, registration.DevicePlugin, devices.Version, func(server *grpc.Server) {
			devices.RegisterDevicePluginServer(server, &device{response: response})
		})
	}
	select {}
}

// serve listens below the kubelet's root, and where the kubelet looks for plugins.
func serve(root, name, kind, version string, register func(*grpc.Server)) {
	file := filepath.Base(name) + ".sock"
	endpoint := filepath.Join(root, "plugins", driverName, file)
	listen(endpoint, register)
	info := &registration.PluginInfo{Type: kind, Name: name, Endpoint: endpoint, SupportedVersions: []string{version}}
	listen(filepath.Join(root, "plugins_registry", file), func(server *grpc.Server) {
		registration.RegisterRegistrationServer(server, registrar{info: info})
	})
}

func listen(path string, register func(*grpc.Server)) {
	must(os.MkdirAll(filepath.Dir(path), 0o750))
	listener, err := net.Listen("unix", path)
	must(err)
	server := grpc.NewServer()
	register(server)
	go func() { must(server.Serve(listener)) }()
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type registrar struct {
	registration.UnimplementedRegistrationServer
	info *registration.PluginInfo
}

func (r registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return r.info, nil
}

func (r registrar) NotifyRegistrationStatus(_ context.Context, status *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	log.Print(r.info.Name, " is registered: ", status)
	return &registration.RegistrationStatusResponse{}, nil
}

type device struct {
	devices.UnimplementedDevicePluginServer
	response *devices.ContainerAllocateResponse
}

func (d *device) GetDevicePluginOptions(context.Context, *devices.Empty) (*devices.DevicePluginOptions, error) {
	return &devices.DevicePluginOptions{}, nil
}

func (d *device) ListAndWatch(_ *devices.Empty, stream grpc.ServerStreamingServer[devices.ListAndWatchResponse]) error {
	found := &devices.ListAndWatchResponse{}
	for _, id := range []string{"0", "1", "2", "3", "4", "5", "6", "7"} {
		found.Devices = append(found.Devices, &devices.Device{ID: id, Health: devices.Healthy})
	}
	if err := stream.Send(found); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (d *device) Allocate(_ context.Context, request *devices.AllocateRequest) (*devices.AllocateResponse, error) {
	response := &devices.AllocateResponse{}
	for range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, d.response)
	}
	return response, nil
}

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	data string
}

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: driverName, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: "node"}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	stage := &csi.NodeServiceCapability_RPC{Type: csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME}
	capability := &csi.NodeServiceCapability{Type: &csi.NodeServiceCapability_Rpc{Rpc: stage}}
	return &csi.NodeGetCapabilitiesResponse{Capabilities: []*csi.NodeServiceCapability{capability}}, nil
}

func (d *driver) NodeStageVolume(_ context.Context, request *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	at := request.StagingTargetPath
	if isMounted(at) {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	if request.VolumeContext["kind"] == "tmpfs" {
		return &csi.NodeStageVolumeResponse{}, tmpfs(at)
	}
	source := filepath.Join(d.data, request.VolumeContext["kind"], request.VolumeId)
	if err := os.MkdirAll(source, 0o777); err != nil {
		return nil, err
	}
	// Whatever the umask is.
	if err := os.Chmod(source, 0o777); err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, unix.Mount(source, at, "", unix.MS_BIND, "")
}

func (d *driver) NodePublishVolume(_ context.Context, request *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	at := request.TargetPath
	if isMounted(at) {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if err := os.MkdirAll(at, 0o750); err != nil {
		return nil, err
	}
	if request.VolumeContext["csi.storage.k8s.io/ephemeral"] == "true" {
		return &csi.NodePublishVolumeResponse{}, tmpfs(at)
	}
	return &csi.NodePublishVolumeResponse{}, unix.Mount(request.StagingTargetPath, at, "", unix.MS_BIND, "")
}

func (d *driver) NodeUnpublishVolume(_ context.Context, request *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	_ = unix.Unmount(request.TargetPath, 0)
	return &csi.NodeUnpublishVolumeResponse{}, os.RemoveAll(request.TargetPath)
}

func (d *driver) NodeUnstageVolume(_ context.Context, request *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	_ = unix.Unmount(request.StagingTargetPath, 0)
	return &csi.NodeUnstageVolumeResponse{}, nil
}

func tmpfs(at string) error {
	return unix.Mount("tmpfs", at, "tmpfs", 0, "mode=0777")
}

func isMounted(at string) bool {
	var here, above unix.Stat_t
	return unix.Stat(at, &here) == nil && unix.Stat(filepath.Dir(at), &above) == nil && here.Dev != above.Dev
}
