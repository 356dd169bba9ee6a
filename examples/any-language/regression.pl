#!/usr/bin/perl
# Linear regression by gradient descent, on one client's own csv file (three inputs, one output a row).
#   regression.pl train DATA MODEL_IN METRICS_OUT MODEL_OUT
#   regression.pl validate DATA MODEL_IN METRICS_OUT
use strict;
use warnings;

my ($task, $data, $model_in, $metrics_out, $model_out) = @ARGV;

sub slurp {
    open my $in, '<:raw', $_[0] or die "$_[0]: $!\n";
    local $/;
    return scalar readline $in;
}

sub spew {
    open my $out, '>:raw', $_[0] or die "$_[0]: $!\n";
    print {$out} $_[1];
    close $out or die "$_[0]: $!\n";
}

# A model is a safetensors file: the length of the header (8 bytes, little-endian), the header (JSON: name,
# dtype, shape and place of each tensor), then the numbers. Updates keep the header and change the numbers.
my $model = slurp($model_in);
my $start = 8 + unpack 'Q<', $model;
my $header = substr $model, 8, $start - 8;

sub place {
    $header =~ /"$_[0]":\{"dtype":"F64"[^}]*"data_offsets":\[(\d+),(\d+)\]/ or die "no $_[0] in the model\n";
    return ($start + $1, $2 - $1);
}

sub tensor     { return unpack 'd<*', substr $model, $_[0], $_[1] }
sub set_tensor { substr $model, $_[0], $_[1], pack 'd<*', @_[2 .. $#_] }

my @weights = tensor(place('weights'));
my ($bias) = tensor(place('bias'));
my @rows = map { [split /,/] } grep { /^[-\d.]/ } split /\n/, slurp($data);

sub error_of {
    my @row = @{$_[0]};
    my $sum = $bias - $row[3];
    $sum += $weights[$_] * $row[$_] for 0 .. 2;
    return $sum;
}

if ($task eq 'train') {
    for (1 .. $ENV{FEDN_CONFIG_STEPS}) {    # hyperparameters come as variables
        my @slope = (0) x 4;
        for my $row (@rows) {
            my $error = error_of($row);
            $slope[$_] += $error * $row->[$_] / @rows for 0 .. 2;
            $slope[3] += $error / @rows;
        }
        $weights[$_] -= $ENV{FEDN_CONFIG_LEARNING_RATE} * $slope[$_] for 0 .. 2;
        $bias -= $ENV{FEDN_CONFIG_LEARNING_RATE} * $slope[3];
    }
    set_tensor(place('weights'), @weights);
    set_tensor(place('bias'), $bias);
    spew($model_out, $model);
}

my $squares = 0;
$squares += error_of($_)**2 for @rows;
my ($examples, $rmse) = (scalar @rows, sqrt($squares / @rows));
spew($metrics_out, qq({"examples": $examples, "metrics": {"rmse": $rmse}}\n));
