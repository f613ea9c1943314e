package engine

import (
	"reflect"
	"testing"
)

// Every option must reach the package that does the work.
func TestConvertOptionsArePassedOn(t *testing.T) {
	var opt ConvertOptions
	v := reflect.ValueOf(&opt).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(v.Type().Field(i).Name)
		case reflect.Int:
			f.SetInt(int64(i + 1))
		case reflect.Func:
			f.Set(reflect.MakeFunc(f.Type(), func([]reflect.Value) []reflect.Value { return nil }))
		default:
			t.Fatalf("field %s has kind %s: expected a text, a number or a function", v.Type().Field(i).Name, f.Kind())
		}
	}
	got := reflect.ValueOf(opt.internal())
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		switch f := got.FieldByName(name); {
		case !f.IsValid():
			t.Errorf("option %s is not known inside", name)
		case f.Kind() == reflect.Func && f.IsNil(), f.Kind() != reflect.Func && !reflect.DeepEqual(f.Interface(), v.Field(i).Interface()):
			t.Errorf("option %s is not passed on", name)
		}
	}
	if got.NumField() != v.NumField() {
		t.Errorf("%d options inside, %d outside", got.NumField(), v.NumField())
	}
}
