// One program for the four parts of a Kubernetes control plane: the first argument says which.
//
// They share most of their code, so one program is half the size of four and is linked once. Nothing here configures
// them: Seawall gives every flag on the command line.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	// Without these the parts have no metrics of their clients and of their own version.
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

func main() {
	if len(os.Args) < 2 {
		refuse("no part is named")
	}
	name, arguments := os.Args[1], os.Args[2:]
	if name == "etcd" {
		etcdmain.Main(append([]string{name}, arguments...))
		return
	}
	command := command(name)
	// Cobra reads the arguments of the process itself unless it is told others.
	os.Args = append([]string{name}, arguments...)
	command.SetArgs(arguments)
	os.Exit(cli.Run(command))
}

func command(name string) *cobra.Command {
	switch name {
	case "kube-apiserver":
		return apiserver.NewAPIServerCommand()
	case "kube-controller-manager":
		return manager.NewControllerManagerCommand()
	case "kube-scheduler":
		return scheduler.NewSchedulerCommand()
	}
	refuse(fmt.Sprintf("%q is no part", name))
	return nil
}

func refuse(problem string) {
	fmt.Fprintf(os.Stderr, "controlplane: %s; name one of etcd, kube-apiserver, kube-controller-manager, kube-scheduler\n", problem)
	os.Exit(2)
}
