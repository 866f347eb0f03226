// Package folder keeps a Store of objects as the manifests in a folder say.
package folder

import _ "sigs.k8s.io/yaml"
