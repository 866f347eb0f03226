package metrics

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"usher/balancer"
)

// family is a metric's name, and what its series have in common.
type family struct {
	desc   *prometheus.Desc
	kind   dto.MetricType
	names  []string // of labels, in the order of names
	order  []int    // by name: which of the values that a series is given
	bounds []float64
}

func newFamily(kind dto.MetricType, name, help string, labels []string) *family {
	f := &family{desc: prometheus.NewDesc(name, help, labels, nil), kind: kind, names: slices.Sorted(slices.Values(labels))}
	for _, name := range f.names {
		f.order = append(f.order, slices.Index(labels, name))
	}
	return f
}

func counter(name, help string, labels ...string) *family {
	return newFamily(dto.MetricType_COUNTER, name, help, labels)
}

func gauge(name, help string, labels ...string) *family {
	return newFamily(dto.MetricType_GAUGE, name, help, labels)
}

func histogram(name, help string, bounds *balancer.Bounds, labels ...string) *family {
	f := newFamily(dto.MetricType_HISTOGRAM, name, help, labels)
	for _, bound := range bounds {
		f.bounds = append(f.bounds, bound.Seconds())
	}
	return f
}

// series is where one scrape's series go.
type series chan<- prometheus.Metric

// send sends one number. Labels are in the order of the family's.
func (to series) send(f *family, value float64, labels ...string) {
	m := newSample(f, labels)
	m.value = value
	to <- m
}

func (to series) count(f *family, n uint64, labels ...string) { to.send(f, float64(n), labels...) }

func (to series) seconds(f *family, d time.Duration, labels ...string) {
	to.send(f, d.Seconds(), labels...)
}

func (to series) histogram(f *family, h balancer.HistogramCounts, labels ...string) {
	m := newSample(f, labels)
	m.durations = h
	to <- m
}

// sample is one series at the time of a scrape. client_golang's constant metrics check and
// sort the labels of each one, which takes more time than all else that is done here.
type sample struct {
	family    *family
	labels    []*dto.LabelPair // in the order of their names
	value     float64
	durations balancer.HistogramCounts
}

func newSample(f *family, labels []string) *sample {
	m := &sample{family: f, labels: make([]*dto.LabelPair, len(f.names))}
	pairs := make([]dto.LabelPair, len(f.names))
	for i, from := range f.order {
		// A label's value is UTF-8, and a path need not be.
		value := strings.ToValidUTF8(labels[from], "\uFFFD")
		pairs[i].Name, pairs[i].Value = &f.names[i], &value
		m.labels[i] = &pairs[i]
	}
	return m
}

// Desc returns the description of the family.
func (m *sample) Desc() *prometheus.Desc { return m.family.desc }

// Write fills in the series.
func (m *sample) Write(out *dto.Metric) error {
	out.Label = m.labels
	switch m.family.kind {
	case dto.MetricType_COUNTER:
		out.Counter = &dto.Counter{Value: &m.value}
	case dto.MetricType_GAUGE:
		out.Gauge = &dto.Gauge{Value: &m.value}
	default:
		out.Histogram = m.histogram()
	}
	return nil
}

// histogram returns the buckets, each with all that is within its bound.
func (m *sample) histogram() *dto.Histogram {
	buckets := make([]dto.Bucket, len(m.family.bounds))
	n, sum := uint64(0), m.durations.Sum.Seconds()
	h := &dto.Histogram{SampleCount: &n, SampleSum: &sum}
	for i := range buckets {
		n += m.durations.Counts[i]
		upTo := n
		buckets[i].UpperBound, buckets[i].CumulativeCount = &m.family.bounds[i], &upTo
		h.Bucket = append(h.Bucket, &buckets[i])
	}
	n += m.durations.Counts[len(buckets)]
	return h
}
